"""The Capsule: key service and judge of Sonar campaigns. Only `capsule.client` is for other packages."""
