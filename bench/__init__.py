"""Benchmarks of the mesh: every figure beside a peer or a floor that was measured in the same run.

`python -m bench NAME` (or `scripts/weft bench NAME`); README.md says what each one does and needs.
"""
