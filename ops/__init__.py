"""Running the service: settings, supervision, TorchServe's configuration, and the `embedkit` command."""
