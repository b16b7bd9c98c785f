-- Bodies are zstd frames from here on; those that are there stay as they are, and are read. Nothing has to change but the
-- version: a control plane that does not know it would hand out what it cannot read.
SELECT 1;
