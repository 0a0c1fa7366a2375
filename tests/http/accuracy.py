#!/usr/bin/python3
"""Measures a model's accuracy on Fashion-MNIST's test images through the daemon's HTTP API.

    /usr/bin/python3 tests/http/accuracy.py --url http://127.0.0.1:8080 --model fashion

Every image is sent as a PNG file, over 16 keep-alive connections. Prints the accuracy and the
rate; exits 1 when the accuracy is below --at-least or any request fails. Needs only the standard
library and the Debian package dataset-fashion-mnist.
"""

import argparse
import gzip
import http.client
import json
import struct
import sys
import threading
import time
import urllib.parse
import zlib

CONNECTIONS = 16
TIMEOUT_S = 60
DATA = "/usr/share/datasets/fashion-mnist"


def read_idx(path):
    """The shape and the bytes of an IDX file of unsigned bytes."""
    with gzip.open(path) as f:
        raw = f.read()
    zero, kind, dims = struct.unpack_from(">HBB", raw)
    shape = struct.unpack_from(f">{dims}I", raw, 4)
    data = raw[4 + 4 * dims:]
    count = 1
    for n in shape:
        count *= n
    if zero != 0 or kind != 8 or count != len(data):
        raise ValueError(f"{path}: not an IDX file of bytes")
    return shape, data


def read_test_set(folder):
    """A list of (pixels, height, width) and the list of their labels."""
    (count, height, width), pixels = read_idx(f"{folder}/t10k-images-idx3-ubyte.gz")
    (labels_count,), labels = read_idx(f"{folder}/t10k-labels-idx1-ubyte.gz")
    if count != labels_count:
        raise ValueError(f"{folder}: {count} images, {labels_count} labels")
    size = height * width
    images = [(pixels[i * size:(i + 1) * size], height, width) for i in range(count)]
    return images, list(labels)


def png_chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(pixels, height, width):
    """An 8-bit grey PNG file, every row unfiltered."""
    rows = b"".join(b"\0" + pixels[y * width:(y + 1) * width] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))


class Counter:
    """Hands out image numbers to the threads and gathers what they find."""

    def __init__(self, total):
        self.lock = threading.Lock()
        self.total = total
        self.next = 0
        self.right = 0
        self.error = None

    def take(self):
        """The next image's number; None when all are taken or a request has failed."""
        with self.lock:
            if self.error or self.next == self.total:
                return None
            self.next += 1
            return self.next - 1

    def add(self, right):
        with self.lock:
            self.right += right

    def fail(self, message):
        with self.lock:
            self.error = self.error or message


def classify(connection, path, image):
    """The index of the class that the daemon finds most likely."""
    connection.request("POST", path, body=png(*image), headers={"Content-Type": "image/png"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {body[:300].decode(errors='replace')}")
    return json.loads(body)["results"][0]["labels"][0]["index"]


def run_connection(counter, address, path, images, labels):
    """One keep-alive connection, one request at a time."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    i = None
    try:
        while (i := counter.take()) is not None:
            counter.add(classify(connection, path, images[i]) == labels[i])
    except Exception as e:  # whatever it was, the measurement is void
        counter.fail(f"image {i}: {type(e).__name__}: {e}")
    finally:
        connection.close()


def measure(url, model, images, labels):
    """The number of right answers and the seconds it took."""
    target = urllib.parse.urlsplit(url)
    if target.scheme != "http" or not target.hostname:
        raise ValueError(f"{url}: want http://HOST:PORT")
    address = (target.hostname, target.port or 80)
    name = urllib.parse.quote(model, safe="")
    path = f"{target.path.rstrip('/')}/v1/models/{name}/perceive?task=classify&top_k=1"
    counter = Counter(len(images))
    threads = [threading.Thread(target=run_connection,
                                args=(counter, address, path, images, labels))
               for _ in range(CONNECTIONS)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if counter.error:
        raise ValueError(counter.error)
    return counter.right, time.monotonic() - start


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--url", default="http://127.0.0.1:8080", help="where the daemon listens")
    p.add_argument("--model", default="fashion", help="the model's name there")
    p.add_argument("--data", default=DATA, help="folder with t10k-*-ubyte.gz")
    p.add_argument("--limit", type=int, help="only the first N images")
    p.add_argument("--at-least", type=float, default=0.88, help="exit 1 below this accuracy")
    args = p.parse_args()
    if args.limit is not None and args.limit < 1:
        p.error("--limit: want at least 1")
    try:
        images, labels = read_test_set(args.data)
        images, labels = images[:args.limit], labels[:args.limit]
        right, seconds = measure(args.url, args.model, images, labels)
    except (OSError, ValueError, struct.error) as e:
        sys.exit(f"accuracy: {e}")
    accuracy = right / len(images)
    print(f"accuracy {accuracy:.4f} ({right} of {len(images)}), "
          f"{len(images) / seconds:.0f} images/s over {CONNECTIONS} connections")
    if accuracy < args.at_least:
        sys.exit(f"accuracy: below {args.at_least}")


if __name__ == "__main__":
    main()
