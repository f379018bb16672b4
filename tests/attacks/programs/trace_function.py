# Tries to leave every frame early with a trace function, as a debugger does. Expect: error|failed
import sys
import threading


def tracer(frame, event, argument):
    if event == "line" and frame.f_code.co_name != "tracer":
        frame.f_locals.clear()
        raise SystemExit(0)
    return tracer


def f(x):
    sys.settrace(tracer)
    threading.settrace(tracer)
    for frame in sys._current_frames().values():
        while frame is not None:
            frame.f_trace = tracer
            frame = frame.f_back
    return 0
