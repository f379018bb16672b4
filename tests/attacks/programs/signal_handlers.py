# Tries to catch or ignore every signal and run for ever. Expect: timeout
import signal

for number in signal.Signals:
    try:
        signal.signal(number, lambda *_: None)
    except (OSError, ValueError):
        pass
while True:
    pass
