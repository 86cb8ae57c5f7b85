"""How much made faces look like people, asked of networks that were trained on photographs and have never seen them (dlib)."""
import warnings

import numpy as np

from facelab.faces import FaceWorld

HOG_UPSAMPLING, CNN_UPSAMPLING = 1, 0


def opinion():
    """dlib's HOG detector, CNN detector, 68-point predictor and identity network, from the [offline] extra."""
    import dlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # face_recognition_models reads its paths through pkg_resources
        import face_recognition_models as models
    return (
        dlib.get_frontal_face_detector(),
        dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location()),
        dlib.shape_predictor(models.pose_predictor_model_location()),
        dlib.face_recognition_model_v1(models.face_recognition_model_location()),
    )


def pictures(batch):
    """uint8 (N,H,W,3) as dlib wants them."""
    return np.ascontiguousarray(((batch.image.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy())


def _largest(boxes):
    return max(boxes, key=lambda box: box.width())


def detection_and_landmarks(count, *, seed=0, cnn=None):
    """Shares of faces found at |yaw| <= 30 degrees and 256 px, and how far dlib's points lie from the truth.

    Distances are means over the points of a face, in its inter-ocular distance measured on the unprojected head; medians
    over faces. ``cnn``: how many of the faces the slow CNN detector sees (default all).
    """
    hog, cnn_detector, predictor, _ = opinion()
    faces = FaceWorld(seed=seed).sample(count, size=256, yaw=(-30, 30))
    shots, truth = pictures(faces), faces.landmarks.numpy()
    eyes = faces.landmarks_3d[:, 36:42].mean(1) - faces.landmarks_3d[:, 42:48].mean(1)
    scale = eyes.norm(dim=1).numpy() * faces.camera[:, 0].numpy() * 256
    found, inner, jaw = 0, [], []
    for i, shot in enumerate(shots):
        boxes = hog(shot, HOG_UPSAMPLING)
        if not boxes:
            continue
        found += 1
        points = predictor(shot, _largest(boxes))
        distance = np.hypot(*(np.array([(p.x, p.y) for p in points.parts()]) - truth[i]).T) / scale[i]
        jaw.append(distance[:17].mean())
        inner.append(distance[17:].mean())
    shown = shots[:cnn]
    by_cnn = sum(bool(cnn_detector(shot, CNN_UPSAMPLING)) for shot in shown)
    return {
        "faces": count,
        "hog": found / count,
        "cnn_faces": len(shown),
        "cnn": by_cnn / len(shown),
        "inner_points": float(np.median(inner)),
        "jaw_points": float(np.median(jaw)),
    }


def identity(people, shots=3, *, seed=11):
    """Balanced accuracy, at the best threshold, of telling same from different people by dlib's 128-d descriptor.

    Poses within 20 degrees of the front; expression, light, gaze, camera and background differ from shot to shot.
    """
    hog, _, predictor, network = opinion()
    faces = FaceWorld(seed=seed).sample(people * shots, size=256, people=people, yaw=(-20, 20))
    descriptors, names = [], []
    for shot, name in zip(pictures(faces), faces.identity.tolist(), strict=True):
        boxes = hog(shot, HOG_UPSAMPLING)
        if boxes:
            descriptors.append(network.compute_face_descriptor(shot, predictor(shot, _largest(boxes))))
            names.append(name)
    descriptors, names = np.array(descriptors), np.array(names)
    i, j = np.triu_indices(len(names), 1)
    distance, same = np.linalg.norm(descriptors[i] - descriptors[j], axis=1), names[i] == names[j]
    accuracy = [((distance[same] < t).mean() + (distance[~same] >= t).mean()) / 2 for t in np.linspace(0.1, 1, 181)]
    return {
        "people": len(set(names.tolist())),
        "same": float(distance[same].mean()),
        "different": float(distance[~same].mean()),
        "balanced_accuracy": float(max(accuracy)),
    }
