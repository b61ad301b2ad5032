"""Locally masked convolutions (Jain, Abbeel and Pathak 2020): a PixelCNN++ that generates pixels in any order."""
