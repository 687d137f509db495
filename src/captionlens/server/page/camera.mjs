// Takes a photograph with the camera, or lets the device take one where the page may not.

import { say } from "./strings.mjs";

export function camera(taken) {
  const dialog = document.getElementById("camera");
  const video = dialog.querySelector("video");
  const take = dialog.querySelector(".take");
  const message = dialog.querySelector(".message");
  const device = dialog.querySelector(".device");
  const capture = document.getElementById("capture");
  let stream = null;
  let count = 0;

  async function open() {
    dialog.showModal();
    video.hidden = take.hidden = device.hidden = true;
    say(message, "cameraStarts");
    let found;
    try {
      found = await navigator.mediaDevices.getUserMedia({ video: { facingMode: { ideal: "environment" } } });
    } catch {
      // No camera, no permission, or no secure connection (then there is no mediaDevices).
      say(message, "noCamera");
      device.hidden = false;
      return;
    }
    if (!dialog.open) return stop(found);
    stream = found;
    video.srcObject = stream;
    await video.play().catch(() => {});
    say(message, "");
    video.hidden = take.hidden = false;
    take.focus();
  }

  const stop = (old) => old?.getTracks().forEach((track) => track.stop());

  document.getElementById("camera-open").addEventListener("click", open);
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    stop(stream);
    video.srcObject = stream = null;
  });
  take.addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const name = `camera-${++count}.jpg`;
    canvas.toBlob((blob) => taken([new File([blob], name, { type: "image/jpeg" })]), "image/jpeg", 0.92);
    dialog.close();
  });
  capture.addEventListener("change", () => {
    taken(capture.files);
    capture.value = "";
    dialog.close();
  });
}
