"""The browser app (``optisar app``) and the HTTP service (``optisar serve``)."""
