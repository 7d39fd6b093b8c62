"""What can serve: a model in a precision with its engines and its cache, under a name."""

from service.deployments.deployment import Deployment, Deployments
from service.deployments.loading import DeploymentLoader, bundle_directory
from service.deployments.models import Models

__all__ = ["Deployment", "DeploymentLoader", "Deployments", "Models", "bundle_directory"]
