# Tries to pass as an object that is called in the place of a function and equals anything. Expect: failed|error
class Anything:
    def __call__(self, *arguments):
        return self

    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0

    __hash__ = None


f = Anything()
