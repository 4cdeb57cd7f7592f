"""The parts of benchmarks/accelerator.py, one a module, and what benchmarks/compiled.py counts."""
