"""ComfyUI nodes: sockets, schemas and adapters around the core, and no mathematics."""
