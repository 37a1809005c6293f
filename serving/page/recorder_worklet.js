// Runs in the audio thread: hands over what the microphone hears, 2048 samples at a time.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(2048);
    this.filled = 0;
  }

  process([[channel]]) {
    if (channel) {
      this.samples.set(channel, this.filled);
      this.filled += channel.length;
      if (this.filled === this.samples.length) {
        this.port.postMessage(this.samples.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
