"""From a trained run to files that engines load, each proven before it is published.

``to_onnx`` makes the fp32 graph and ``graph_rules`` says what every graph must
keep to; ``half``, ``half_graph`` and ``embedding_rows`` make the smaller ones,
``variants`` holds them against fp32, and ``to_bundle`` writes them together.
"""
