"""What a machine has for serving, what is missing, and what its GPU really does.

`examine` looks at everything that `podium serve` needs and says what to do
about what is not there. `proof` measures a GPU from end to end, for the figures
that nobody can make without one.
"""
