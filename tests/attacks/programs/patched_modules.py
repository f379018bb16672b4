# Tries to replace the runner's modules in sys.modules and their functions. Expect: failed|error
import json
import sys

for name, module in list(sys.modules.items()):
    if "sandbox" in name:
        for key in list(vars(module)):
            if callable(vars(module)[key]) and not key.startswith("__"):
                setattr(module, key, lambda *_, **__: True)
json.dumps = json.loads = lambda *_, **__: {"verdict": "passed"}
sys.modules["json"] = sys.modules["socket"] = None


def f(x):
    return 0
