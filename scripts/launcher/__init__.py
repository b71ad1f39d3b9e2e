"""What `scripts/weft` is made of: an environment from the lock, and the mesh's processes on one machine.

Everything imported at a module's top is of the standard library, so that the launcher runs before the
environment exists; what needs a package (rich, psutil) imports it inside and runs in the environment.
"""
