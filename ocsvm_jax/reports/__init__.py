"""Reports: pages, pictures, numbers, where a result comes from."""
