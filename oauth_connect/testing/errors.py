"""The error of a fake provider that is used wrongly, or whose flow the site has refused."""


class FakeProviderError(AssertionError):
    """The test, or the page that it walks, is wrong. The message says what to do. It contains no token."""
