#!/bin/sh
# Starts the service of the image. The graph of the bundled weights was made when the image was built; it is put where
# the engines look for it, and they are tried on this machine in the background, at the lowest priority. The service
# begins in PyTorch at once, and changes over to the fastest engine when the trial is done.
kept="${YOLO_CONFIG_DIR:?}/Ultralytics/optisar-engines"
if [ ! -e "$kept" ] && mkdir -p "$kept"; then
    cp -r "${OPTISAR_GRAPHS:-/opt/optisar/graphs}/Ultralytics/optisar-engines/." "$kept/"
fi
model=""
for word in "$@"; do
    case "$word" in model=*) model="$word" ;; esac
done
optisar cache make ${model:+"$model"} background=True >/dev/null 2>&1 &
exec optisar serve "$@"
