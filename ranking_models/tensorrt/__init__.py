"""From a graph to a TensorRT plan: built, keyed and kept beside the bundles.

No module here imports TensorRT or CUDA when it is imported. The code that
builds takes the module as a parameter, and so runs unchanged on TensorRT
10.16, on 11.4, and on TensorRT-RTX, which needs no GPU to build and with
which the test suite proves every graph. Where these differ is in `targets`.

Networks are strongly typed: a graph runs in the types that it states, and
TensorRT neither casts nor quantises on its own. An fp16 plan comes from an
fp16 graph, an int8 plan from a graph with Q/DQ nodes.
"""
