"""The server lies in `ppcls_lite.serving`; Dockerfiles and manifests in use name it here."""
