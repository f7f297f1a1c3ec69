"""An embeddings endpoint on Ray Serve. It knows vectors, texts and pictures, not the model.

Light: neither Ray nor FastAPI is imported before something is served.
"""

from momo_platform.serving.client import Client, ServiceError
from momo_platform.serving.config import Limits, ServingConfig

__all__ = ["Client", "Limits", "ServiceError", "ServingConfig"]
