// The microphone as a WAV file, made in the browser and without its improvements for speech.

const HEADER_BYTES = 44;

export function explainMissing() {
  if (!window.isSecureContext) {
    return "Recording needs HTTPS, or this page opened from the same machine.";
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return "This browser cannot record.";
  }
  return null;
}

export function explainFailure(error) {
  const reasons = {
    NotAllowedError: "The browser does not allow this page to use the microphone.",
    NotFoundError: "No microphone was found.",
    NotReadableError: "The microphone is in use by another program.",
  };
  return reasons[error.name] ?? `The microphone cannot be used (${error.message}).`;
}

export class Recorder {
  // onLevel(peak, seconds) is called some twenty times a second, onFull() at the longest length.
  constructor({ maxSeconds, maxBytes, onLevel, onFull }) {
    Object.assign(this, { maxSeconds, maxBytes, onLevel, onFull, chunks: [], length: 0 });
  }

  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    try {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("/page/recorder_worklet.js");
      this.node = new AudioWorkletNode(this.context, "capture", {
        numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
      });
      const rate = this.context.sampleRate;
      this.maxLength = Math.floor(Math.min(this.maxSeconds * rate, (this.maxBytes - HEADER_BYTES) / 2));
      this.node.port.onmessage = ({ data }) => this.take(data);
      this.context.createMediaStreamSource(this.stream).connect(this.node);
      await this.context.resume();
    } catch (error) {
      this.release();
      throw error;
    }
  }

  take(samples) {
    if (this.length + samples.length > this.maxLength) {
      this.onFull();
      return;
    }
    this.chunks.push(samples);
    this.length += samples.length;
    let peak = 0;
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    this.onLevel(peak, this.length / this.context.sampleRate);
  }

  // Ends the recording; returns a File, or null where nothing was heard at all.
  stop() {
    const rate = this.context.sampleRate;
    this.release();
    if (this.length === 0) return null;
    return new File([encodeWav(this.chunks, this.length, rate)], "Recording.wav", { type: "audio/wav" });
  }

  release() {
    if (this.node) this.node.port.onmessage = null;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }
}

// Float samples as a WAV file of 16-bit PCM, one channel.
export function encodeWav(chunks, length, rate) {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * length));
  const write = (place, text) => [...text].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * length, true);
  let place = HEADER_BYTES;
  for (const chunk of chunks) {
    for (const sample of chunk) {
      view.setInt16(place, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      place += 2;
    }
  }
  return view.buffer;
}
