"""The import path that Ray Serve's manifests name."""

from ppcls_lite.serving.ray_app import application as application
