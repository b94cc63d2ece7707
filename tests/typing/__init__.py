"""What a type checker says to users of the client: right use passes, and each wrong use is an error in its place."""
