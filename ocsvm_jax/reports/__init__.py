"""Reports: pages, pictures, formatted numbers, and the provenance of results."""
