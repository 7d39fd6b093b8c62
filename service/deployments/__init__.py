"""What can serve: a model in a precision with its engines and its cache, under a name."""

from service.deployments.deployment import Deployment, Deployments
from service.deployments.loading import bundle_directory, load_deployments

__all__ = ["Deployment", "Deployments", "bundle_directory", "load_deployments"]
