"""Stands in for the browser in tests of screens."""


class Listener:
    """Keeps what a screen says, and says what a person does."""

    def __init__(self, screen):
        self.screen, self.heard = screen, []
        screen.send = lambda message, buffers=None: self.heard.append((message, buffers))

    def say(self, op, **message):
        self.heard.clear()
        self.screen._handle_custom_msg({"op": op, **message}, [])
        return self.heard[-1][0] if self.heard else None
