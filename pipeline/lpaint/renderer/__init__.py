"""Neural renderers: networks that learn to draw a stroke's opacity map from its shape parameters.

Adding a network takes a subclass of ``NeuralRenderer`` and a branch of ``build_renderer`` in ``networks.py``; adding a
loss takes an entry of ``_LOSSES`` in ``losses.py``. Either needs its name in the Literal of ``Renderer.network`` or
``Renderer.loss`` in ``runtime/params.py``. The tests in ``tests/renderer`` run over all of both.
"""
