"""Spoken digits: made by speech synthesisers, spoilt for training, and their mel spectra.

Needs the programs espeak-ng and flite, and for one more test the recordings of the Debian package
asterisk-core-sounds-en-wav. A voice is an espeak-ng variant or a flite voice; voices of VALIDATION
and TEST are never trained on.
"""

import concurrent.futures
import json
import math
import os
import random
import subprocess
import wave

import numpy as np
import scipy.ndimage
import scipy.signal
import torch
import torch.nn.functional as F

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RATE, SAMPLES = 8000, 8000
HUMANS = "/usr/share/asterisk/sounds/en_US_f_Allison/digits"

VALIDATION = ["f4", "m3", "Alicia", "Hugo", "boris", "flite:kal"]
TEST = ["f3", "m5", "Annie", "belinda", "linda", "Andrea", "john", "victor", "norbert", "paul",
        "flite:awb"]
FLITE = ["flite:kal", "flite:awb", "flite:rms", "flite:slt"]
ACCENTS = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-029",
           "en-gb-x-gbclan", "en-gb-x-gbcwmd"]
MARKS = ["", "", ".", "?", "!", ","]

# Sounds of each digit by each voice; there are few flite voices.
TAKES = {"train": (6, 40), "validation": (4, 6), "test": (4, 10)}


# ---- making ------------------------------------------------------------------------------------

def variants():
    """Names of espeak-ng's voice variants, in a fixed order."""
    lines = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    names = {field[3:] for line in lines for field in line.split() if field.startswith("!v/")}
    return sorted(names - {"fast"})


def part_of(voice):
    return "test" if voice in TEST else "validation" if voice in VALIDATION else "train"


def speech_command(voice, word, path, rng):
    """A synthesiser's command line with a pitch, a speed and an intonation drawn from rng."""
    text = word + rng.choice(MARKS)
    if voice.startswith("flite:"):
        return ["flite", "-voice", voice[6:], "-t", text, "-o", path,
                "--setf", f"duration_stretch={rng.uniform(0.7, 1.3):.2f}",
                "--setf", f"int_f0_target_mean={rng.uniform(80, 230):.0f}"]
    return ["espeak-ng", "-v", f"{rng.choice(ACCENTS)}+{voice}", "-w", path,
            "-p", str(rng.randint(20, 85)), "-s", str(rng.randint(110, 210)), text]


def read_wave(path):
    """Samples of a 16-bit WAV at RATE, in [-1, 1)."""
    with wave.open(path) as f:
        x = np.frombuffer(f.readframes(f.getnframes()), "<i2").reshape(-1, f.getnchannels())
        rate = f.getframerate()
    x = x.astype(np.float64).mean(1) / 32768
    if rate != RATE:
        common = math.gcd(rate, RATE)
        x = scipy.signal.resample_poly(x, RATE // common, rate // common)
    return x


def write_wave(path, x):
    """x: int16 samples at RATE."""
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes(x.astype("<i2").tobytes())


def trimmed(x, margin=200):
    """x without its silence, but for `margin` samples; at most SAMPLES, 16 bit."""
    loud = scipy.ndimage.maximum_filter1d(np.abs(x), 160)
    where = np.flatnonzero(loud > 0.02 * loud.max())
    x = x[max(0, where[0] - margin):where[-1] + margin][:SAMPLES]
    return np.round(x / np.abs(x).max() * 0.7 * 32767).astype(np.int16)


def one_sound(folder, job):
    """Speaks one word. None if the synthesiser gives nothing."""
    voice, digit, take = job
    path = os.path.join(folder, f"{voice}-{digit}-{take}.wav".replace(":", "-"))
    command = speech_command(voice, WORDS[digit], path, random.Random(f"{voice} {digit} {take}"))
    subprocess.run(command, capture_output=True, check=False)
    try:
        x = trimmed(read_wave(path))
        os.remove(path)
    except (OSError, EOFError, wave.Error, ValueError, IndexError):
        return None
    return x if len(x) > RATE // 10 else None


def make_sounds(folder, workers=2):
    """All sounds of all voices: {part: (list of int16 arrays, labels, voices)}."""
    voices = variants() + FLITE
    jobs = [(v, d, t) for v in voices for d in range(10)
            for t in range(TAKES[part_of(v)][v.startswith("flite:")])]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        made = list(pool.map(lambda job: one_sound(folder, job), jobs))
    parts = {part: ([], [], []) for part in TAKES}
    for (voice, digit, _), x in zip(jobs, made):
        if x is not None:
            for column, value in zip(parts[part_of(voice)], (x, digit, voice)):
                column.append(value)
    return parts


def human_sounds():
    """The recorded digits 0 to 9, silence cut off; nothing if they are not installed."""
    paths = [os.path.join(HUMANS, f"{d}.wav") for d in range(10)]
    if not all(map(os.path.exists, paths)):
        return [], [], []
    return [trimmed(read_wave(p)) for p in paths], list(range(10)), ["Allison"] * 10


def save_sounds(path, parts):
    """One NPZ: samples of all sounds end to end, and their lengths, digits and voices."""
    table = {}
    for part, (sounds, digits, voices) in parts.items():
        table[part + ".samples"] = np.concatenate(sounds) if sounds else np.zeros(0, np.int16)
        table[part + ".lengths"] = np.array([len(x) for x in sounds], np.int64)
        table[part + ".digits"] = np.array(digits, np.int64)
        table[part + ".voices"] = np.array(voices, str)
    np.savez(path, **table)


def load_sounds(path, work):
    """What save_sounds() wrote; made first if it is not there."""
    if not os.path.exists(path):
        folder = os.path.join(work, "speech")
        os.makedirs(folder, exist_ok=True)
        save_sounds(path, {**make_sounds(folder), "human": human_sounds()})
    parts = {}
    with np.load(path) as table:
        for part in [*TAKES, "human"]:
            ends = np.cumsum(table[part + ".lengths"])
            sounds = np.split(table[part + ".samples"], ends[:-1]) if len(ends) else []
            parts[part] = (sounds, table[part + ".digits"], table[part + ".voices"])
    return parts


def export_sounds(folder, spoken, digits, voices):
    """NUMBER.wav and labels.jsonl."""
    os.makedirs(folder, exist_ok=True)
    rows = []
    for i, (x, digit, voice) in enumerate(zip(spoken, digits, voices)):
        write_wave(os.path.join(folder, f"{i:03d}.wav"), x)
        rows.append({"file": f"{i:03d}.wav", "label": int(digit), "voice": str(voice)})
    with open(os.path.join(folder, "labels.jsonl"), "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


# ---- spectra -----------------------------------------------------------------------------------

class Spectrum:
    """The spectrum of perceiver.json's audio input, for a batch of sounds."""

    def __init__(self, s, rate):
        self.s, self.bins = s, s["window"] // 2 + 1
        low, high = (2595 * math.log10(1 + s[k] / 700) for k in ("low", "high"))
        mel = np.linspace(low, high, s["bands"] + 2)
        edge = 700 * (10 ** (mel / 2595) - 1)
        f = np.arange(self.bins)[:, None] * rate / s["window"]
        up = (f - edge[:-2]) / (edge[1:-1] - edge[:-2])
        down = (edge[2:] - f) / (edge[2:] - edge[1:-1])
        self.weight = torch.tensor(np.maximum(0, np.minimum(up, down)), dtype=torch.float32)
        k = torch.arange(s["window"]) / s["window"]
        self.window = 0.5 - 0.5 * torch.cos(2 * math.pi * k)

    def frames(self, lengths):
        return (lengths + self.s["hop"] - 1) // self.s["hop"]

    def power(self, x, lengths):
        """x [n,samples], zero from each one's length on: [n,frames,bins], at the wanted rms."""
        square = x.square().sum(1) / lengths
        x = x * (self.s["rms"] * torch.rsqrt(square.clamp(min=1e-20)))[:, None]
        left = self.s["window"] // 2 - self.s["hop"] // 2
        count = int(self.frames(lengths).max())
        right = max(0, (count - 1) * self.s["hop"] + self.s["window"] - left - x.shape[1])
        parts = F.pad(x, (left, right)).unfold(1, self.s["window"], self.s["hop"])[:, :count]
        y = torch.view_as_real(torch.fft.rfft(parts * self.window))
        return y.square().sum(-1)

    def bands(self, power):
        y = (self.s["floor"] + power @ self.weight).log()
        return (y - self.s["mean"]) / self.s["std"]


def batch_of(sounds):
    """int16 sounds to samples [n,longest], and lengths."""
    lengths = torch.tensor([len(x) for x in sounds])
    out = torch.zeros(len(sounds), int(lengths.max()))
    for row, x in zip(out, sounds):
        row[:len(x)] = torch.from_numpy(x.astype(np.float32) / 32768)
    return out, lengths


def plain_tokens(spectrum, sounds):
    """Frames [n,most,bands] as the server sees them, and how many each sound has."""
    x, lengths = batch_of(sounds)
    return spectrum.bands(spectrum.power(x, lengths)), spectrum.frames(lengths)


# ---- spoiling ----------------------------------------------------------------------------------

def warped(x, rng):
    """Another speed, and with it pitch and formants; sometimes cut a little at either end."""
    count = int(len(x) / rng.uniform(0.8, 1.25))
    at = np.linspace(0, len(x) - 1, max(800, min(SAMPLES, count)))
    y = np.interp(at, np.arange(len(x)), x)
    cut = rng.integers(0, 300, 2)
    return y[cut[0]:len(y) - cut[1]]


def placed(x, rng):
    """x somewhere in up to a second of silence; half of the time with little around it."""
    room = SAMPLES - len(x)
    total = len(x) + int(room * (rng.random() if rng.random() < 0.6 else 0.15 * rng.random()))
    out = np.zeros(total, np.float32)
    at = rng.integers(0, total - len(x) + 1)
    out[at:at + len(x)] = x
    return out


def noisy(x, rng):
    """x with noise, white to brown, of 5 to 70 dB less than its peak region."""
    noise = rng.standard_normal(len(x)).astype(np.float32)
    noise = scipy.signal.lfilter([1], [1, -rng.choice([0, 0.5, 0.9])], noise)
    level = np.sqrt(np.mean(x ** 2)) / (np.std(noise) + 1e-9)
    return x + noise * level * 10 ** (-rng.uniform(5, 70) / 20)


def echoing(x, rng):
    """A decaying echo of a small room, for a third of the sounds."""
    if rng.random() > 0.33:
        return x
    n = rng.integers(300, 1600)
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * rng.uniform(0.02, 0.12)
    tail[0] = 1
    return scipy.signal.fftconvolve(x, tail)[:len(x)]


def spoilt(x, rng):
    y = warped(x.astype(np.float32) / 32768, rng)
    return noisy(echoing(placed(y, rng), rng), rng).astype(np.float32)


def equalised(power, rng):
    """A smooth random filter, tilt and waves over frequency, at unchanged power."""
    n, _, bins = power.shape
    f = np.linspace(0, 1, bins)
    decibel = rng.normal(0, 7, (n, 1)) * (f - 0.5)
    for waves in (1, 2, 3):
        phase = rng.uniform(0, 2 * math.pi, (n, 1))
        decibel += rng.normal(0, 3, (n, 1)) * np.cos(math.pi * waves * f + phase)
    gain = torch.from_numpy(10 ** (decibel / 10)).float()[:, None]
    out = power * gain
    return out * (power.sum((1, 2)) / out.sum((1, 2)).clamp(min=1e-9))[:, None, None]


def masked_bands(y, rng):
    """Up to four neighbouring bands, for half of the sounds, and up to six frames at their mean."""
    n, frames, bands = y.shape
    for i in np.flatnonzero(rng.random(n) < 0.5):
        at = rng.integers(0, bands - 4)
        y[i, :, at:at + rng.integers(1, 5)] = y[i].mean()
    for i in np.flatnonzero(rng.random(n) < 0.3):
        at = rng.integers(0, max(1, frames - 6))
        y[i, at:at + rng.integers(1, 7)] = y[i].mean()
    return y


def spoilt_tokens(spectrum, sounds, rng):
    """As plain_tokens(), of sounds changed at random."""
    rows = [spoilt(x, rng) for x in sounds]
    lengths = torch.tensor([len(x) for x in rows])
    out = torch.zeros(len(rows), int(lengths.max()))
    for to, x in zip(out, rows):
        to[:len(x)] = torch.from_numpy(x)
    power = equalised(spectrum.power(out, lengths), rng)
    return masked_bands(spectrum.bands(power), rng), spectrum.frames(lengths)


def train_batch(spectrum, spoken, labels, voices, count, flite_share, rng):
    """Frames [count,most,bands], how many each sound has, and labels."""
    flite = np.char.startswith(voices, "flite")
    odds = np.where(flite, flite_share / flite.sum(), (1 - flite_share) / (~flite).sum())
    rows = rng.choice(len(spoken), count, p=odds)
    frames, lengths = spoilt_tokens(spectrum, [spoken[i] for i in rows], rng)
    return frames, lengths, torch.from_numpy(labels[rows])
