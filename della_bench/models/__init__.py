"""The model types that lm-evaluation-harness sees; import the module of the engine you want."""
