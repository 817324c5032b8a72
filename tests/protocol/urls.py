"""URLs that are not what they look like."""

from __future__ import annotations

from hypothesis import strategies as st

NOT_THE_API = [
    "https://evil.example/",
    "//evil.example/",
    "//api.example/",
    "https://api.example.evil.example/",
    "https://evilapi.example/",
    "https://evil.example/https://api.example/",
    "https://evil.example?api.example",
    "https://evil.example#@api.example/",
    "https://api.example@evil.example/",
    "https://api.example:443@evil.example/",
    "https://user:password@api.example/",
    "https://api.example:8443/",
    "https://api.example:80/",
    "https://api.example:0/",
    "https://api.example./",
    "https://sub.api.example/",
    "http://api.example/",
    "http://api.example:443/",
    "ftp://api.example/",
    "file://api.example/",
    "https:///api.example/",
    "https://\\api.example/",
    "https://evil.example\\@api.example/",
    "https://api.example\\.evil.example/",
    "https://api.example%2eevil.example/",
    "https://api.example%00.evil.example/",
    "https://api.example\x00.evil.example/",
    "https://api.example\t.evil.example/",
    "https://api.example\r\nHost: evil.example/",
    " https://evil.example/",
    "https://[::1/",
    "https://[api.example]/",
    "https://аpi.example/",  # noqa: RUF001  (a Cyrillic letter)
    "https://127.0.0.1/",
    "",
]

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)
NEAR_URLS = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["https:", "http:", "//", "/", "\\", "@", ":", "#", "?", "[", "]", "::1", "%", "%25", "."]
        )
        | st.sampled_from(
            ["api.example", "evil.example", "localhost", "443", "99999", "\t", "\n", "\x00", " "]
        )
        | ANY_TEXT,
        max_size=8,
    ),
)
