"""The methods of filtering, one module each; `separable.engine.registry` lists them."""

__all__: list[str] = []
