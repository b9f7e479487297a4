from tests.support.browser import chromium, open_context, open_page

__all__ = ["chromium", "open_context", "open_page"]
