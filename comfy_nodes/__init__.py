"""ComfyUI nodes: sockets, schemas and adapters around the core. They contain no mathematics."""
