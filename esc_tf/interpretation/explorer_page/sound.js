// The sound of features: their share of each time and frequency masks the clip's short-time
// Fourier transform, and the inverse takes the clip's own phases. What Python's `listen` does.

// A discrete Fourier transform of any length, by its prime factors.
class Fourier {
  constructor(size) {
    this.size = size;
    this.cosine = new Float64Array(size);
    this.sine = new Float64Array(size);
    for (let i = 0; i < size; i += 1) {
      this.cosine[i] = Math.cos((2 * Math.PI * i) / size);
      this.sine[i] = -Math.sin((2 * Math.PI * i) / size);
    }
    this.factors = [];
    for (let rest = size, factor = 2; rest > 1; factor += 1) {
      for (; rest % factor === 0; rest /= factor) this.factors.push(factor);
    }
  }

  // Σ_t x[t] exp(-2πi kt / size) of `re` + i `im`; with the two swapped in input and output it is
  // the inverse but for the factor 1 / size.
  transform(re, im, outRe, outIm) {
    this.#part(re, im, 0, 1, outRe, outIm, 0, this.size, 0);
  }

  #part(re, im, from, step, outRe, outIm, to, size, depth) {
    if (size === 1) {
      outRe[to] = re[from];
      outIm[to] = im[from];
      return;
    }
    const factor = this.factors[depth];
    const length = size / factor;
    for (let r = 0; r < factor; r += 1) {
      this.#part(re, im, from + r * step, step * factor, outRe, outIm, to + r * length, length, depth + 1);
    }
    const turn = this.size / size;
    if (factor === 2) this.#joinTwo(outRe, outIm, to, length, turn);
    else this.#join(outRe, outIm, to, length, factor, turn);
  }

  #joinTwo(re, im, to, length, turn) {
    const { cosine, sine } = this;
    for (let k = 0; k < length; k += 1) {
      const [low, high] = [to + k, to + k + length];
      const [c, s] = [cosine[k * turn], sine[k * turn]];
      const a = re[high] * c - im[high] * s;
      const b = re[high] * s + im[high] * c;
      re[high] = re[low] - a;
      im[high] = im[low] - b;
      re[low] += a;
      im[low] += b;
    }
  }

  #join(re, im, to, length, factor, turn) {
    const { cosine, sine, size } = this;
    const [a, b] = [new Float64Array(factor), new Float64Array(factor)];
    for (let k = 0; k < length; k += 1) {
      for (let r = 0; r < factor; r += 1) {
        a[r] = re[to + k + r * length];
        b[r] = im[to + k + r * length];
      }
      for (let q = 0; q < factor; q += 1) {
        let [sumRe, sumIm] = [0, 0];
        for (let r = 0; r < factor; r += 1) {
          const place = (r * (k + q * length) * turn) % size;
          sumRe += a[r] * cosine[place] - b[r] * sine[place];
          sumIm += a[r] * sine[place] + b[r] * cosine[place];
        }
        re[to + k + q * length] = sumRe;
        im[to + k + q * length] = sumIm;
      }
    }
  }
}

// The transform at a front end's frames, with more frames on both sides, so that every sample is
// under as many windows as in the middle and the inverse is exact to the clip's edges.
class ShortTimeTransform {
  constructor({ n_fft: size, hop_length: hop, is_centred: isCentred }, window) {
    Object.assign(this, { size, hop, window, numBins: Math.floor(size / 2) + 1 });
    this.first = isCentred ? -Math.floor(size / 2) : 0;
    this.added = Math.max(Math.ceil((size + this.first) / hop), 0);
    this.start = this.first - this.added * hop;
    this.fourier = new Fourier(size);
  }

  // Frames of a clip, `numBins` numbers each: two real frames in each complex transform.
  analyse(samples) {
    const { size, hop, window, numBins, start } = this;
    const count = 1 + Math.floor((samples.length - 1 - start) / hop);
    const [re, im] = [new Float32Array(count * numBins), new Float32Array(count * numBins)];
    const [inRe, inIm, outRe, outIm] = Array.from({ length: 4 }, () => new Float64Array(size));
    const fill = (target, frame) => {
      for (let i = 0; i < size; i += 1) {
        target[i] = frame < count ? (samples[start + frame * hop + i] ?? 0) * window[i] : 0;
      }
    };
    for (let frame = 0; frame < count; frame += 2) {
      fill(inRe, frame);
      fill(inIm, frame + 1);
      this.fourier.transform(inRe, inIm, outRe, outIm);
      for (let bin = 0; bin < numBins; bin += 1) {
        const mirrored = (size - bin) % size;
        const place = frame * numBins + bin;
        re[place] = (outRe[bin] + outRe[mirrored]) / 2;
        im[place] = (outIm[bin] - outIm[mirrored]) / 2;
        if (frame + 1 < count) {
          re[place + numBins] = (outIm[bin] + outIm[mirrored]) / 2;
          im[place + numBins] = (outRe[mirrored] - outRe[bin]) / 2;
        }
      }
    }
    return { re, im, count, numSamples: samples.length };
  }

  // `maskOf(frame)` gives `numBins` weights; the added frames take the nearest one's.
  filter(spectrum, maskOf, numMaskFrames) {
    const { size, hop, window, numBins, start } = this;
    const { count, numSamples } = spectrum;
    const [sum, weight] = [new Float64Array(numSamples), new Float64Array(numSamples)];
    const [inRe, inIm, outRe, outIm] = Array.from({ length: 4 }, () => new Float64Array(size));
    const nearest = (frame) => Math.min(Math.max(frame - this.added, 0), numMaskFrames - 1);
    const overlap = (values, frame) => {
      const from = start + frame * hop;
      const last = Math.min(size, numSamples - from);
      for (let i = Math.max(0, -from); i < last; i += 1) {
        sum[from + i] += (values[i] / size) * window[i];
        weight[from + i] += window[i] * window[i];
      }
    };
    for (let frame = 0; frame < count; frame += 2) {
      inRe.fill(0);
      inIm.fill(0);
      this.#addMasked(spectrum, frame, maskOf(nearest(frame)), inRe, inIm, false);
      const isPair = frame + 1 < count;
      if (isPair) this.#addMasked(spectrum, frame + 1, maskOf(nearest(frame + 1)), inRe, inIm, true);
      this.fourier.transform(inIm, inRe, outIm, outRe);
      overlap(outRe, frame);
      if (isPair) overlap(outIm, frame + 1);
    }
    return Float32Array.from(sum, (value, i) => value / weight[i]);
  }

  // Adds a frame's whole spectrum, or i times it, so that the inverse is real, or imaginary.
  #addMasked({ re, im }, frame, mask, outRe, outIm, isImaginary) {
    const { size, numBins } = this;
    for (let bin = 0; bin < numBins; bin += 1) {
      const a = mask[bin] * re[frame * numBins + bin];
      // The first bin and, of an even size, the last are their own mirror images, and real.
      const mirrored = (size - bin) % size;
      const b = mirrored === bin ? 0 : mask[bin] * im[frame * numBins + bin];
      outRe[bin] += isImaginary ? -b : a;
      outIm[bin] += isImaginary ? a : b;
      if (mirrored !== bin) {
        outRe[mirrored] += isImaginary ? b : a;
        outIm[mirrored] += isImaginary ? a : -b;
      }
    }
  }
}

// V ≈ W H of one clip; W `(rank, bands)`, H `(rank, frames)`, results `(frames, bands)`.
function explain(filters, activations, features, numBands, numFrames) {
  const result = new Float32Array(numFrames * numBands);
  for (const feature of features) {
    const filter = filters.subarray(feature * numBands, (feature + 1) * numBands);
    for (let frame = 0; frame < numFrames; frame += 1) {
      const activation = activations[feature * numFrames + frame];
      if (activation === 0) continue;
      const place = frame * numBands;
      for (let band = 0; band < numBands; band += 1) result[place + band] += activation * filter[band];
    }
  }
  return result;
}

// For each FFT bin the bands over it and their weights, which sum to 1.
function readSpreading(weights, numBins, numBands) {
  const bins = [];
  for (let bin = 0; bin < numBins; bin += 1) {
    const reached = [];
    for (let band = 0; band < numBands; band += 1) {
      const weight = weights[bin * numBands + band];
      if (weight > 0) reached.push([band, weight]);
    }
    bins.push(reached);
  }
  return bins;
}

// A function frame → weights of the bins, for `ShortTimeTransform.filter`.
function buildMask(part, whole, chosenShare, spreading, numBands) {
  const share = new Float64Array(numBands);
  const mask = new Float64Array(spreading.length);
  return (frame) => {
    for (let band = 0; band < numBands; band += 1) {
      const place = frame * numBands + band;
      share[band] = whole[place] > 0 ? Math.min(part[place] / whole[place], 1) : chosenShare;
    }
    spreading.forEach((bands, bin) => {
      mask[bin] = 0;
      for (const [band, weight] of bands) mask[bin] += weight * share[band];
    });
    return mask;
  };
}

function findPeak(samples) {
  return samples.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);
}

// A WAV file of 16 bits; what is beyond full scale must have been turned down.
function encodeWav(samples, rateHz) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, rateHz, true);
  view.setUint32(28, 2 * rateHz, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => {
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(32768 * value))), true);
  });
  return new Blob([view], { type: "audio/wav" });
}
