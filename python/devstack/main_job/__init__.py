"""The main job of `make run`: a user signs in, deploys a vault, lets a flow trade through it, and checks it all.

Everything goes the way a user's front end would go (REST and the user's own wallet); the checks read the chain
directly and trust nothing the services say.
"""
