"""What outlives a scope beside pending tasks. Imported only for a scope that is told to look for more than tasks.

Each kind has a module of its own, with a class that tells what there is of that kind, whose it is, and how to end it.
"""
