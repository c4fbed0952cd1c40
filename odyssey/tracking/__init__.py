"""MLflow: what is recorded of a study, where, and how one gets from a run back to its code and data.

The one package that imports mlflow.
"""
