"""The browser app (``optisar app``) and the HTTP service (``optisar serve``).

`limits` holds the limits of both and the refusal of a request, `uploads` reads untrusted image files, and `grounder`
runs the model with a cache of encoded images. The service is `service` with `middleware` (limits, metrics) and
`batching`; the app is `app` with `outputs` (drawings, tables, files).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
