"""Settings that every test shares."""

from hypothesis import settings

# No deadline: a slow machine is not a failure. The blob in a failure's text repeats it with the same example.
settings.register_profile("lenet_mp", deadline=None, print_blob=True)
settings.load_profile("lenet_mp")
