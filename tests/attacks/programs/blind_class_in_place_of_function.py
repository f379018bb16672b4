# Tries to pass with a class in the place of the function, whose objects equal anything. Expect: failed|error
class f:
    def __init__(self, *arguments):
        pass

    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0

    def __hash__(self):
        return 0
