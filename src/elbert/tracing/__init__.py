"""One text layer by layer: what every exit said, what the policy made of it, what [CLS] attended to."""
