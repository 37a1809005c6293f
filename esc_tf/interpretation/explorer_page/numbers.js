// Numbers inside the page: base64 of deflated bytes, and half-precision floats.

const HALF_TO_FLOAT = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  HALF_TO_FLOAT[bits] = bits >> 15 ? -size : size;
}

function decodeBase64(text) {
  return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Reads what one element of the page holds, block behind block in the order it was written.
class BlockReader {
  static async open(id) {
    const reader = new BlockReader();
    reader.bytes = await inflate(decodeBase64(document.getElementById(id).textContent));
    reader.place = 0;
    return reader;
  }

  // All first bytes come before all second ones: alike numbers deflate to less.
  takeWords(count) {
    const words = new Uint16Array(count);
    const low = this.bytes.subarray(this.place, this.place + count);
    const high = this.bytes.subarray(this.place + count, this.place + 2 * count);
    for (let i = 0; i < count; i += 1) words[i] = low[i] | (high[i] << 8);
    this.place += 2 * count;
    return words;
  }

  takeHalves(count) {
    return Float32Array.from(this.takeWords(count), (bits) => HALF_TO_FLOAT[bits]);
  }

  // 16-bit PCM, full scale 1.
  takeSamples(count) {
    return Float32Array.from(new Int16Array(this.takeWords(count).buffer), (value) => value / 32768);
  }

  takeFloats(count) {
    const values = new Float32Array(this.bytes.slice(this.place, this.place + 4 * count).buffer);
    this.place += 4 * count;
    return values;
  }
}
