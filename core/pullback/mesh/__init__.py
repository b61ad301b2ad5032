"""From a density field to a file: `extract` a surface, `unwrap` it, `bake` its pictures, `write_glb`."""
