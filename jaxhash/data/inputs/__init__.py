"""What is encoded: items on disk or in memory, in the form that a hash function takes.

`prepare` brings single images and vectors to that form.
"""
