#!/bin/sh
ehco "Hello, $1!"
