"""Commands that build what the package ships or trains on: data sets and the bundled text encoder."""
