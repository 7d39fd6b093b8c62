"""A model as a Triton server has it: its name, its inputs, its configuration, its repository.

Both sides use this: the writer of a model repository (`repository`), and the
service, which asks such a server for scores and answers as one itself.
"""
