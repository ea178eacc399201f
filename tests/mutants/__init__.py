"""Mutation testing of the numeric core: does a test notice when one operator of a formula is wrong?"""
