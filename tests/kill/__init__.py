"""The kill test: producers write while the server is killed again and again; a checker compares what they were told
with what is there."""
