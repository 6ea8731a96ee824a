#!/bin/sh
# Lists the files of a folder, the largest first.
ls -lS "$1"
